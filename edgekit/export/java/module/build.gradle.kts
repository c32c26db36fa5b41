plugins {
    id("com.android.library")
}

android {
    namespace = "@NAMESPACE@"
    compileSdk = 35

    defaultConfig {
        minSdk = 26
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    // Mapped from the package, not copied: the app's own build says the same.
    androidResources {
        noCompress += listOf("tflite")
    }

    sourceSets {
        getByName("main") {
            java.setSrcDirs(listOf("src/main/java", "src/litert/java", "src/android/java"))
        }
    }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:@LITERT@")
    androidTestImplementation("androidx.test:runner:1.6.2")
    androidTestImplementation("androidx.test.ext:junit:1.2.1")
}
