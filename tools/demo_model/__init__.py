"""Parts of tools/train_demo_model.py: corpus, tokenizer, conversations, batches, training, saving, card."""
