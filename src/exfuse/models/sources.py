"""Where an encoder's first weights may come from besides a file."""

PUBLIC = ("random", "timm", "package")
