"""What a request costs: this worker beside its peers, its growth under load, and the counts that the tests hold."""
