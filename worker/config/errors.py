"""The one error of this room."""


class ConfigurationError(Exception):
    """The configuration cannot be used.

    `problems` holds one line per problem; each names its variable and none holds the value of a secret. `warnings`
    are about variables that are not known: what is missing may be there under a misspelt name.
    """

    def __init__(self, problems: tuple[str, ...], warnings: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.warnings = warnings

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything that is to be said."""
        return (*self.problems, *self.warnings)
