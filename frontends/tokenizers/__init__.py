"""What belongs to a model's texts: tokenizers, each made into a `tokenizer.json`, and chat templates."""
