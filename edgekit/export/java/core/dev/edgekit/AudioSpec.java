package dev.edgekit;

import java.util.ArrayList;
import java.util.List;

/** How a sound becomes a tensor; the keys and their meanings are those of edgekit/specs/audio.py. */
public final class AudioSpec extends InputSpec {
    public final String value;
    public final String mask;
    public final int rateHz;
    final boolean firstChannel;
    final int zeros;
    final double rolloff;
    final double beta;
    final boolean int16Amplitude;
    final Windows windows;
    final Length length;
    final String normalize;
    final double epsilon;
    final Spectrum features;
    final String layout;
    final int[] shape;
    final String datatype;
    final Quantization quantization;

    AudioSpec(Fields f) {
        value = f.text("value");
        mask = f.textOrNull("mask");
        rateHz = f.whole("rate_hz");
        firstChannel = f.choice("downmix", "mean", "first").equals("first");
        double[] filter = f.record(
                "resample", r -> new double[] {r.whole("zeros"), r.real("rolloff"), r.real("beta")});
        zeros = (int) filter[0];
        rolloff = filter[1];
        beta = filter[2];
        int16Amplitude = f.choice("amplitude", "unit", "int16").equals("int16");
        windows = f.recordOrNull("windows", Windows::new);
        length = f.recordOrNull("length", Length::new);
        normalize = f.choice("normalize", "none", "zero_mean_unit_variance", "peak");
        epsilon = f.real("epsilon");
        features = f.recordOrNull("features", Spectrum::new);
        layout = f.choice("layout", "samples", "frames_bands", "bands_frames");
        shape = f.wholes("shape");
        String dtype = f.choice("dtype", "float32", "int16", "uint8", "int8");
        datatype = dtype.equals("float32") ? "FP32" : dtype.toUpperCase(java.util.Locale.ROOT);
        quantization = f.recordOrNull("quantization", Quantization::new);
        f.flag("streamable");
    }

    @Override
    List<String> values() {
        List<String> names = new ArrayList<>(List.of(value));
        if (mask != null) {
            names.add(mask);
        }
        return names;
    }

    static final class Windows {
        final int samples;
        final int hop;
        final int lead;
        final boolean drop;

        Windows(Fields f) {
            samples = f.whole("samples");
            hop = f.whole("hop");
            lead = f.whole("lead");
            drop = f.choice("tail", "fill", "drop").equals("drop");
        }
    }

    static final class Length {
        final int samples;
        final String pad;
        final String trim;

        Length(Fields f) {
            samples = f.whole("samples");
            pad = f.choice("pad", "zero", "repeat", "wrap", "none");
            trim = f.choice("trim", "right", "center", "none");
        }
    }

    static final class Spectrum {
        final String type;
        final int frameLength;
        final int hopLength;
        final int fftLength;
        final String center;
        final boolean removeDc;
        final double preemphasis;
        final String window;
        final double power;
        final boolean dropLast;
        final int bands;
        final double lowHz;
        final double highHz;
        final String melScale;
        final boolean slaneyNorm;
        final boolean melTriangles;
        final boolean addFloor;
        final double floor;
        final String log;
        final double dynamicRange;
        final int cepstra;
        final String dctNorm;
        final int frames;
        final double framePad;
        final double offset;
        final double divisor;

        Spectrum(Fields f) {
            type = f.choice("type", "whisper", "kaldi", "mel", "mfcc");
            frameLength = f.whole("frame_length");
            hopLength = f.whole("hop_length");
            fftLength = f.whole("fft_length");
            center = f.choice("center", "none", "reflect", "zero");
            removeDc = f.flag("remove_dc");
            preemphasis = f.real("preemphasis");
            window = f.choice(
                    "window", "hann", "hann_symmetric", "hamming", "hamming_symmetric", "povey", "rectangular");
            power = f.real("power");
            dropLast = f.flag("drop_last");
            bands = f.whole("bands");
            lowHz = f.real("low_hz");
            highHz = f.real("high_hz");
            melScale = f.choice("mel_scale", "htk", "slaney", "kaldi");
            slaneyNorm = f.choice("mel_norm", "none", "slaney").equals("slaney");
            melTriangles = f.choice("triangles", "hz", "mel").equals("mel");
            addFloor = f.choice("floor_mode", "add", "clamp").equals("add");
            floor = f.real("floor");
            log = f.choice("log", "none", "ln", "log10", "db");
            dynamicRange = f.real("dynamic_range");
            cepstra = f.whole("cepstra");
            dctNorm = f.choice("dct_norm", "none", "ortho", "tensorflow");
            frames = f.whole("frames");
            framePad = f.real("frame_pad");
            offset = f.real("offset");
            divisor = f.real("divisor");
        }

        int width() {
            return bands > 0 ? bands : fftLength / 2 + 1;
        }
    }
}
