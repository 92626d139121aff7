"""What is told of each request when it is over: the request log and traces."""
