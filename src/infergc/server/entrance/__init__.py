"""Who is let in: keys and tenants, limits, the line before the engine, and the door of a server that stops."""
