"""Files of tensors by name, one format each, and what these lie in; `weight_files.py` has the table of them."""
