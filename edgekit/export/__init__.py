"""Projects for platforms without Python, made of a bundle and of sources that travel as data (host only)."""
