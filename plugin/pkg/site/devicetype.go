package site

import "strings"

// primaryDeviceTypes are the codes of DICOM PS3.16 CID 29 (Acquisition Modality) and of CID 30 (DICOM Device), which includes it.
var primaryDeviceTypes = func() map[string]bool {
	const (
		cid29 = "AR BDUS BI BMD CFM CR CT DG DMS DX ECG EEG EMG EOG EPS ES GM HD IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT " +
			"OP OPM OPT OPTBSV OPTENF OPV OSS PA POS PT PX RESP RF RG RTIMAGE SM SRF TG US VA XA XC"
		cid30 = "ARCHIVE CAD CAPTURE COMP DSS FILMD LOG M3D MCD PRINT RT STAIN WSD"
	)
	types := make(map[string]bool)
	for t := range strings.FieldsSeq(cid29 + " " + cid30) {
		types[t] = true
	}
	return types
}()

// PrimaryDeviceType reports whether v is a code of DICOM PS3.16 CID 30, which are in upper case.
func PrimaryDeviceType(v string) bool { return primaryDeviceTypes[v] }

func asciiUpper(v string) string { return strings.ToUpper(v) }
