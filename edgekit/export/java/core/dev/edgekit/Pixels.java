package dev.edgekit;

/** A decoded picture: levels 0-255, row by row, `channels` 1 (grey), 3 (red, green, blue) or 4 (with alpha). */
public final class Pixels {
    public final byte[] levels;
    public final int height;
    public final int width;
    public final int channels;

    private Pixels(byte[] levels, int height, int width, int channels) {
        if (height < 1 || width < 1 || (long) height * width * channels != levels.length) {
            throw new InputError("image: expected " + height + " x " + width + " x " + channels + " levels, got "
                    + levels.length);
        }
        this.levels = levels;
        this.height = height;
        this.width = width;
        this.channels = channels;
    }

    /** Packed 0xAARRGGBB, as android.graphics.Bitmap.getPixels gives them. */
    public static Pixels argb(int[] colours, int width, int height) {
        byte[] levels = new byte[Math.multiplyExact(colours.length, 4)];
        for (int i = 0; i < colours.length; i++) {
            levels[4 * i] = (byte) (colours[i] >> 16);
            levels[4 * i + 1] = (byte) (colours[i] >> 8);
            levels[4 * i + 2] = (byte) colours[i];
            levels[4 * i + 3] = (byte) (colours[i] >>> 24);
        }
        return new Pixels(levels, height, width, 4);
    }

    /** Red, green, blue; three bytes a pixel. */
    public static Pixels rgb(byte[] levels, int width, int height) {
        return new Pixels(levels, height, width, 3);
    }

    /** One byte a pixel. */
    public static Pixels grey(byte[] levels, int width, int height) {
        return new Pixels(levels, height, width, 1);
    }

    static Pixels of(byte[] levels, int height, int width, int channels) {
        return new Pixels(levels, height, width, channels);
    }

    /** The picture turned and flipped as EXIF's orientation tag (1 to 8) says it must be shown. */
    public Pixels oriented(int orientation) {
        if (orientation < 2 || orientation > 8) {
            return this;
        }
        boolean swapped = orientation >= 5;
        int tall = swapped ? width : height;
        int wide = swapped ? height : width;
        byte[] turned = new byte[levels.length];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                int fromY = swapped ? x : y;
                int fromX = swapped ? y : x;
                if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
                    fromY = height - 1 - fromY;
                }
                if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
                    fromX = width - 1 - fromX;
                }
                System.arraycopy(levels, (fromY * width + fromX) * channels, turned, (y * wide + x) * channels, channels);
            }
        }
        return new Pixels(turned, tall, wide, channels);
    }

    /** In the colours that a spec asks for: 1 channel for grey, else red, green, blue; alpha dropped or blended. */
    Pixels inColours(ImageSpec spec) {
        Pixels opaque = channels == 4 ? withoutAlpha(spec.alpha) : this;
        boolean grey = spec.colour.equals("grey");
        if (grey == (opaque.channels == 1)) {
            return opaque;
        }
        int count = height * width;
        byte[] made = new byte[grey ? count : 3 * count];
        for (int i = 0; i < count; i++) {
            if (grey) { // Pillow's L: 16-bit fixed point
                int red = opaque.levels[3 * i] & 0xff;
                int green = opaque.levels[3 * i + 1] & 0xff;
                int blue = opaque.levels[3 * i + 2] & 0xff;
                made[i] = (byte) ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
            } else {
                made[3 * i] = made[3 * i + 1] = made[3 * i + 2] = opaque.levels[i];
            }
        }
        return new Pixels(made, height, width, grey ? 1 : 3);
    }

    private Pixels withoutAlpha(String alpha) {
        byte[] made = new byte[height * width * 3];
        int ground = alpha.equals("white") ? 255 : 0;
        for (int i = 0; i < height * width; i++) {
            int a = levels[4 * i + 3] & 0xff;
            for (int c = 0; c < 3; c++) {
                int level = levels[4 * i + c] & 0xff;
                made[3 * i + c] = (byte) (alpha.equals("drop") ? level : blended(level, ground, a));
            }
        }
        return new Pixels(made, height, width, 3);
    }

    /** Pillow's alpha_composite on an opaque ground (AlphaComposite.c), in its fixed point of 7 bits. */
    private static int blended(int level, int ground, int alpha) {
        int coefficient = alpha * 128;
        int sum = level * coefficient + ground * (255 * 128 - coefficient) + (0x80 << 7);
        return (((sum >> 8) + sum) >> 8) >> 7;
    }
}
