"""The one error of this room."""


class ConfigurationError(Exception):
    """The configuration cannot be used.

    `problems` holds one line per problem; each names its variable and none holds the value of a secret.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
