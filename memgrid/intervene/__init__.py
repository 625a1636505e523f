"""Whether the language model needs those positions: they are switched off while it decodes."""
