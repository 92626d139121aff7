"""What the config.json of a Hugging Face model folder says, as plain data: to load a model by, and to simulate it."""
