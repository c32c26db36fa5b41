"""On the host: from a recipe, a hub folder or a TFLite file to a checked bundle."""
