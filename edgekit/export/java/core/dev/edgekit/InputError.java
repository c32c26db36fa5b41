package dev.edgekit;

/** What was given to predict cannot be used. */
public final class InputError extends EdgekitError {
    private static final long serialVersionUID = 1L;

    public InputError(String message) {
        super(message);
    }
}
