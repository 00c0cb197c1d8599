"""Between active and ordinary convolutions: to networks that need no plugin, and back."""
