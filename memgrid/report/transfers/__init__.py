"""What the report says of transfers: whether networks that were trained on one run tell the classes of another apart."""
