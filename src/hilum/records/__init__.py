"""What the service remembers: schema, migrations, store."""
