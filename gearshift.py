"""The command ``gearshift``; its verbs are in ``pipelines.cli``."""

from pipelines.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
