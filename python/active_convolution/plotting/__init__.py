"""Pictures: of positions (synapses), moving (animation), and of how networks learned (curves), in one style."""
