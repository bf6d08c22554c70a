package handover

import "testing"

func TestPolicyMeasures(t *testing.T) {
	for _, tc := range []struct {
		policy string
		want   bool
		pcr    uint32
	}{
		{"", false, 0},
		{"measure func=CRITICAL_DATA\n", true, 10},
		{"# comment\nmeasure func=BPRM_CHECK\nmeasure func=CRITICAL_DATA label=ima_kexec\n", true, 10},
		{"measure func=CRITICAL_DATA label=selinux|ima_kexec|kernel_info pcr=11\n", true, 11},
		{"measure func=CRITICAL_DATA label=selinux\n", false, 0},
		{"dont_measure func=CRITICAL_DATA\n", false, 0},
		{"dont_measure func=CRITICAL_DATA label=ima_kexec\nmeasure func=CRITICAL_DATA\n", false, 0},
		{"dont_measure func=CRITICAL_DATA label=selinux\nmeasure func=CRITICAL_DATA\n", true, 10},
		{"measure func=FILE_CHECK label=ima_kexec\n", false, 0},
	} {
		pcr, got := policyMeasures([]byte(tc.policy), 10)
		if got != tc.want || got && pcr != tc.pcr {
			t.Errorf("%q: %v into PCR %d, want %v, %d", tc.policy, got, pcr, tc.want, tc.pcr)
		}
	}
}
