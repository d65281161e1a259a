"""Everything between a media file and a batch: decoding, audio, faces, data sets, loading."""
