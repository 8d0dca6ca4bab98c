"""``python -m ddrl`` is ``ddrl``."""

from ddrl.cli import main

if __name__ == "__main__":
    main()
