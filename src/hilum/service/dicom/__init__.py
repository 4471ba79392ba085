"""The DICOM listener; the only home of pynetdicom."""
