"""Labels of sequences: what taxonomies ask for, and which sequences become samples."""
