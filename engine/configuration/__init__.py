"""Settings: from the environment, from flags, from the settings file."""
