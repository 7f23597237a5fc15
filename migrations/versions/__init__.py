"""The steps, each with its way up and its way down."""
