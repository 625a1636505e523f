"""Selection: which labelled sequences a run trains and evaluates on."""
