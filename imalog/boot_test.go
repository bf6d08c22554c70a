package imalog

import (
	"reflect"
	"testing"
)

func TestCapturedBoots(t *testing.T) {
	for dir, want := range map[string][]Boot{
		"lists/6.12-cloud/ima-ng-tcb": {
			{0, 54, true, "6.12.95+deb12-cloud-amd64", -1, -1},
		},
		"handover/7.2-cloud-6.1-cloud/arrived": {
			{0, 51, true, "7.2.13+deb14-cloud-amd64", -1, -1},
			{51, 4, true, "6.1.0-56-cloud-amd64", -1, -1},
		},
		"imakexec/mainline-kexec_file_load/arrived": {
			{0, 19, true, "7.2.13-imakexec", 13, 18},
			{19, 4, true, "7.2.13-imakexec", -1, -1},
		},
		"inject/6.12-cloud-tpm0/arrived": {
			{0, 13, true, "6.12.95+deb12-cloud-amd64", 12, -1},
			{13, 4, true, "6.12.95+deb12-cloud-amd64", -1, -1},
		},
		"trim/7.2-cloud/trimmed": {{0, 8, false, "", -1, -1}},
	} {
		c := captured{"testdata/" + dir}
		b, opts := c.binary(t, "sha1")
		got, err := Boots(Records(b, opts))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", dir, got)
		}
	}
}
