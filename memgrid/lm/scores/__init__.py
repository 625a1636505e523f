"""What the logits of one pass say of the tokens that were read: how well the model knows them."""
