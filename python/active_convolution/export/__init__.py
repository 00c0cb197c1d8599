"""Between active and ordinary convolutions: export to networks that need no plugin, and conversion into active ones."""
