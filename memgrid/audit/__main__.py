"""`python -m memgrid.audit`."""

from memgrid.audit.run import main

if __name__ == "__main__":
    main()
