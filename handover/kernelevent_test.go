package handover

import "testing"

func TestPolicyMeasures(t *testing.T) {
	for _, tc := range []struct {
		policy string
		want   bool
	}{
		{"", false},
		{"measure func=CRITICAL_DATA\n", true},
		{"# comment\nmeasure func=BPRM_CHECK\nmeasure func=CRITICAL_DATA label=ima_kexec\n", true},
		{"measure func=CRITICAL_DATA label=selinux|ima_kexec|kernel_info pcr=11\n", true},
		{"measure func=CRITICAL_DATA label=selinux\n", false},
		{"dont_measure func=CRITICAL_DATA\n", false},
		{"measure func=FILE_CHECK label=ima_kexec\n", false},
	} {
		if got := policyMeasures([]byte(tc.policy)); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.policy, got, tc.want)
		}
	}
}
