package dev.edgekit;

/** Samples and their rate: 16-bit whole numbers, or floats with 1.0 as full scale; channels interleaved. */
public final class Sound {
    final short[] whole;
    final float[] real;
    public final int channels;
    public final int rateHz;

    private Sound(short[] whole, float[] real, int channels, int rateHz) {
        int count = whole == null ? real.length : whole.length;
        if (channels < 1 || count == 0 || count % channels != 0) {
            throw new InputError("audio: " + count + " samples are not whole frames of " + channels + " channels");
        }
        if (rateHz < 1 || rateHz > 1 << 20) {
            throw new InputError("audio: expected a sampling rate of 1 to " + (1 << 20) + " Hz, got " + rateHz);
        }
        this.whole = whole;
        this.real = real;
        this.channels = channels;
        this.rateHz = rateHz;
    }

    /** 16-bit samples, as android.media.AudioRecord gives them. */
    public static Sound of(short[] samples, int channels, int rateHz) {
        return new Sound(samples, null, channels, rateHz);
    }

    /** Float samples in [-1, 1). */
    public static Sound of(float[] samples, int channels, int rateHz) {
        for (float sample : samples) {
            if (!(Math.abs(sample) <= 1e6f)) {
                throw new InputError("audio: expected finite float samples with 1.0 as full scale, got " + sample);
            }
        }
        return new Sound(null, samples, channels, rateHz);
    }

    int frames() {
        return (whole == null ? real.length : whole.length) / channels;
    }

    /** The downmix in the spec's amplitude at the sound's own rate. */
    float[] oneChannel(AudioSpec spec) {
        int mixedChannels = spec.firstChannel ? 1 : channels;
        float[] mixed = new float[frames()];
        for (int i = 0; i < mixed.length; i++) {
            float sum = 0;
            for (int c = 0; c < mixedChannels; c++) {
                sum += whole == null ? real[i * channels + c] : whole[i * channels + c];
            }
            mixed[i] = sum;
        }
        double unit = whole == null ? 1.0 : 1.0 / 32768.0;
        double factor = unit / mixedChannels * (spec.int16Amplitude ? 32768.0 : 1.0);
        for (int i = 0; factor != 1.0 && i < mixed.length; i++) {
            mixed[i] *= (float) factor;
        }
        return mixed;
    }
}
