"""The screens of the console: a module for each, which exports `routes`."""
