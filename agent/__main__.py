"""``python -m agent`` is ``verge``."""

from agent.cli import main

if __name__ == "__main__":
    main()
