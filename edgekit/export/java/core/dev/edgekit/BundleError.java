package dev.edgekit;

/** A bundle cannot be read, or its manifest says something that this library does not know. */
public final class BundleError extends EdgekitError {
    private static final long serialVersionUID = 1L;

    public BundleError(String message) {
        super(message);
    }
}
