"""Run the command line as ``python -m hilum``."""

from hilum.cli import main

if __name__ == "__main__":
    main()
