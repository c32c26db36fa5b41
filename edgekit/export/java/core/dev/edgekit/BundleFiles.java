package dev.edgekit;

/** Where the files of a bundle are: a folder of an app's assets, or of a disk. */
public interface BundleFiles {
    /** The bytes of a small file (manifest, tokenizer, labels, golden sample), by its name in the bundle. */
    byte[] read(String name);
}
