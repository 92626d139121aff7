"""Text without tensors: tokenizer, detokenising, stop strings, chat templates."""
