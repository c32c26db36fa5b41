package dev.edgekit;

/** Base of every error raised on purpose. */
public class EdgekitError extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public EdgekitError(String message) {
        super(message);
    }
}
