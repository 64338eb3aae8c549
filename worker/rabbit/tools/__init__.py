"""What commands use of RabbitMQ: logins, sender, event stream, parked queue, topology; not the worker itself."""
