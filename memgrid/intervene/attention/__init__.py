"""What a language model still says while parts of its attention are switched off, and what its heads do while none is."""
