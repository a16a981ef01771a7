"""The templates of decoders, encoders and encoder-decoders: a family states what is its own."""
