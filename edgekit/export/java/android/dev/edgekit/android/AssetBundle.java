package dev.edgekit.android;

import android.content.res.AssetFileDescriptor;
import android.content.res.AssetManager;
import dev.edgekit.BundleError;
import dev.edgekit.BundleFiles;
import dev.edgekit.Predictor;
import dev.edgekit.litert.LiteRtLoader;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/** A bundle in a folder of an app's assets. */
public final class AssetBundle implements BundleFiles {
    private final AssetManager assets;
    private final String folder;

    public AssetBundle(AssetManager assets, String folder) {
        this.assets = assets;
        this.folder = folder;
    }

    /** The predictor of the bundle in `folder`; threads per graph, 0 = LiteRT's choice. */
    public static Predictor load(AssetManager assets, String folder, int threads) {
        AssetBundle bundle = new AssetBundle(assets, folder);
        return Predictor.load(bundle, new LiteRtLoader(bundle::map, threads));
    }

    @Override
    public byte[] read(String name) {
        try (InputStream stream = assets.open(folder + "/" + name)) {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            byte[] block = new byte[1 << 16];
            for (int count = stream.read(block); count >= 0; count = stream.read(block)) {
                bytes.write(block, 0, count);
            }
            return bytes.toByteArray();
        } catch (IOException error) {
            throw new BundleError(folder + "/" + name + ": cannot be read (" + error.getMessage() + ")");
        }
    }

    /** A graph mapped from the package; copied into memory where the app's build compressed it. */
    private ByteBuffer map(String name) {
        try (AssetFileDescriptor asset = assets.openFd(folder + "/" + name);
                FileInputStream stream = new FileInputStream(asset.getFileDescriptor())) {
            return stream.getChannel()
                    .map(FileChannel.MapMode.READ_ONLY, asset.getStartOffset(), asset.getDeclaredLength());
        } catch (IOException compressed) {
            byte[] data = read(name);
            ByteBuffer copy = ByteBuffer.allocateDirect(data.length);
            copy.put(data);
            copy.rewind();
            return copy;
        }
    }
}
