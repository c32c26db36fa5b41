package dev.edgekit;

/** A graph cannot be loaded or run, or answers something that no result can be made of. */
public final class GraphRefused extends EdgekitError {
    private static final long serialVersionUID = 1L;

    public GraphRefused(String message) {
        super(message);
    }
}
