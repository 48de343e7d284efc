"""The reference pages, made from the code: ``python -m docs.generate`` (`make reference`) writes them."""
