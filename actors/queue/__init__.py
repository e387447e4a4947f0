"""The Dramatiq broker and consumer over dramatiq-pg's table in PostgreSQL."""
