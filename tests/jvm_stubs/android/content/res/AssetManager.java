package android.content.res;

import java.io.IOException;
import java.io.InputStream;

/** The documented signatures that the module calls, to compile against; nothing here runs. */
public final class AssetManager {
    public InputStream open(String name) throws IOException {
        throw new IOException();
    }

    public AssetFileDescriptor openFd(String name) throws IOException {
        throw new IOException();
    }
}
