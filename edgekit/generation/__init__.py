"""Text that is written token by token: the loop, the choice of tokens, long sounds, and the way to a result."""
