"""``python -m infergc.cli``: the same as the ``infergc`` command."""

from infergc.cli.main import main

if __name__ == "__main__":
    main()
