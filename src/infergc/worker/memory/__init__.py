"""Where KV lies: storage on the device and on the host, the moves within it and the copies between them."""
