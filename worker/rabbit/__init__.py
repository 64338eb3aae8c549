"""RabbitMQ: supervised connections, topology, deliveries in, confirmed messages out."""
