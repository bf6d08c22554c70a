package imalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Every field of every captured record decodes, and what was decoded encodes to
// the same bytes.
func TestCapturedFields(t *testing.T) {
	decoded := map[string]int{}
	filled := map[string]int{}
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		for i, rec := range records(t, b, opts) {
			var ids []string
			for f, err := range rec.Fields() {
				if err != nil {
					t.Fatalf("%s: record %d: %v", c.name(), i, err)
				}
				ids = append(ids, f.ID())
				decoded[f.ID()]++
				if len(f.Data) > 0 {
					filled[f.ID()]++
				}
				if len(f.Data) == 0 && f.Kind() == KindDigest {
					continue // d-modsig of a file without an appended signature
				}
				if again, err := reencode(f); err != nil || !bytes.Equal(again, f.Data) {
					t.Errorf("%s: record %d: field %s: %x decodes and encodes to %x, %v", c.name(), i, f.ID(), f.Data, again, err)
				}
			}
			if got := strings.Join(ids, "|"); got != named(rec.Template).format {
				t.Errorf("%s: record %d of template %s has fields %s", c.name(), i, rec.Template, got)
			}
			if _, err := rec.Xattrs(); err != nil {
				t.Errorf("%s: record %d: %v", c.name(), i, err)
			}
		}
	}
	for _, id := range []string{"d", "n", "d-ng", "d-ngv2", "n-ng", "sig", "d-modsig", "modsig", "buf",
		"evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"} {
		if decoded[id] == 0 {
			t.Errorf("no field %s", id)
		}
		if filled[id] == 0 && id != "d-modsig" && id != "modsig" {
			t.Errorf("no field %s with anything in it", id)
		}
	}
	t.Log(decoded)
}

// reencode decodes a field to its typed value and encodes that.
func reencode(f Field) ([]byte, error) {
	switch f.Kind() {
	case KindDigest:
		d, err := f.FileDigest()
		return d.Append(nil, f.ID()), err
	case KindText:
		s, err := f.Text()
		s = bytes.Clone(s)
		if err == nil && len(s) < len(f.Data) {
			s = append(s, 0)
		}
		return s, err
	case KindSignature:
		s, err := f.Signature()
		if err != nil || len(f.Data) == 0 {
			return nil, err
		}
		return s.Append(nil), nil
	case KindNames:
		names, err := f.Names()
		if len(f.Data) == 0 {
			return nil, err
		}
		return append([]byte(strings.Join(names, "|")), 0), err
	case KindLengths:
		lengths, err := f.Lengths()
		var b []byte
		for _, n := range lengths {
			b = f.order().appendUint32(b, n)
		}
		return b, err
	case KindUint:
		v, err := f.Uint()
		order := f.order()
		switch len(f.Data) {
		case 0:
			return nil, err
		case 1:
			return []byte{byte(v)}, err
		case 2:
			return order.appendUint16(nil, uint16(v)), err
		case 4:
			return order.appendUint32(nil, uint32(v)), err
		}
		return order.appendUint64(nil, v), err
	}
	return f.Data, nil
}

func find(t *testing.T, dir, name string) *Record {
	t.Helper()
	b, opts := captured{"testdata/" + dir}.binary(t, "sha1")
	for _, rec := range records(t, b, opts) {
		if rec.Name() == name {
			return &rec
		}
	}
	t.Fatalf("%s: no record %s", dir, name)
	return nil
}

// What files signed and hashed with evmctl on a real machine come to.
func TestCapturedXattrs(t *testing.T) {
	const dir = "lists/6.12-cloud/evm-sig-xattr"
	signed := find(t, dir, "/signed")
	xattrs, err := signed.Xattrs()
	if err != nil || len(xattrs) != 1 || xattrs[0].Name != "security.ima" {
		t.Fatalf("%v, %v", xattrs, err)
	}
	s, ok := ParseSignature(xattrs[0].Value)
	if !ok || s.Type != SignatureIMA || s.Version != 2 || HashName(s.HashAlg) != "sha256" || s.KeyID != 0x0a92900c || len(s.Sig) != 256 {
		t.Errorf("%v %+v", ok, s)
	}
	for id, want := range map[string]uint64{"iuid": 0, "igid": 0, "imode": 0o100644} {
		f, _ := signed.Field(id)
		if v, err := f.Uint(); v != want || err != nil {
			t.Errorf("%s: %o, %v", id, v, err)
		}
	}
	hashed, err := find(t, dir, "/hashed").Xattrs()
	if err != nil || len(hashed) != 1 {
		t.Fatal(hashed, err)
	}
	if _, ok := ParseSignature(hashed[0].Value); ok {
		t.Error("a digest was taken for a signature")
	}
	f, _ := find(t, dir, "/evmsigned").Field("evmsig")
	if s, err := f.Signature(); err != nil || s.Type != SignatureEVM || s.Type.String() != "evm" {
		t.Errorf("%+v, %v", s, err)
	}
	f, _ = find(t, "lists/6.12-cloud/ima-sig-xattr", "/signed").Field("sig")
	if s, err := f.Signature(); err != nil || s.Type != SignatureIMA || len(s.Sig) != 256 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFieldsByHand(t *testing.T) {
	sum := strings.Repeat("\xab", 32)
	for name, test := range map[string]struct {
		field Field
		want  any // nil: an error
	}{
		"d":              {NewField("d", []byte(sum[:20]), nil), FileDigest{Sum: []byte(sum[:20])}},
		"d-ng":           {NewField("d-ng", []byte("sha256:\x00"+sum), nil), NewFileDigest("", "sha256", []byte(sum))},
		"d-ng wp512":     {NewField("d-ng", []byte("wp512:\x00"+sum), nil), NewFileDigest("", "wp512", []byte(sum))},
		"d-ng bare":      {NewField("d-ng", []byte(":\x00"+sum), nil), FileDigest{Sum: []byte(sum)}},
		"d-ng with type": {NewField("d-ng", []byte("ima:sha256:\x00"+sum), nil), nil},
		"d-ng no NUL":    {NewField("d-ng", []byte("sha256:"), nil), nil},
		"d-ng no colon":  {NewField("d-ng", []byte("sha256\x00"+sum), nil), nil},
		"d-ng empty":     {NewField("d-ng", nil, nil), nil},
		"d-ngv2":         {NewField("d-ngv2", []byte("verity:sha512:\x00"+sum), nil), NewFileDigest("verity", "sha512", []byte(sum))},
		"d-ngv2 no type": {NewField("d-ngv2", []byte("sha256:\x00"+sum), nil), nil},
		"d-modsig":       {NewField("d-modsig", []byte("sha384:\x00"+sum), nil), NewFileDigest("", "sha384", []byte(sum))},
		"n-ng":           {NewField("n-ng", []byte("/a\nb\x00"), nil), "/a\nb"},
		"n":              {NewField("n", []byte("/ab"), nil), "/ab"},
		"n-ng empty":     {NewField("n-ng", nil, nil), nil},
		"n-ng no NUL":    {NewField("n-ng", []byte("/ab"), nil), nil},
		"n-ng two NULs":  {NewField("n-ng", []byte("/a\x00b\x00"), nil), nil},
		"sig":            {NewField("sig", []byte("\x06\x03\x06\x01\x02\x03\x04\x00\x02zz"), nil), Signature{SignatureVerity, 3, 6, 0x01020304, []byte("zz")}},
		"sig empty":      {NewField("sig", nil, nil), Signature{}},
		"sig short":      {NewField("sig", []byte("\x03\x02\x04\x01\x02\x03\x04\x00\x03zz"), nil), nil},
		"sig version 1":  {NewField("sig", []byte("\x03\x01\x04\x01\x02\x03\x04\x00\x02zz"), nil), nil},
		"sig HMAC":       {NewField("evmsig", []byte("\x02\x02\x04\x01\x02\x03\x04\x00\x02zz"), nil), nil},
		"iuid":           {NewField("iuid", []byte{1, 2, 0, 0}, nil), uint64(0x201)},
		"iuid big":       {NewField("iuid", []byte{0, 0, 2, 1}, binary.BigEndian), uint64(0x201)},
		"imode":          {NewField("imode", []byte{0xed, 0x81}, nil), uint64(0o100755)},
		"igid long":      {NewField("igid", []byte{1, 0, 0, 0, 0, 0, 0, 0x80}, nil), uint64(1<<63 + 1)},
		"igid of three":  {NewField("igid", []byte{1, 2, 3}, nil), nil},
		"xattrnames":     {NewField("xattrnames", []byte("security.ima|security.selinux\x00"), nil), []string{"security.ima", "security.selinux"}},
		"xattrlengths":   {NewField("xattrlengths", []byte{9, 1, 0, 0, 2, 0, 0, 0}, nil), []uint32{265, 2}},
		"xattrlengths 5": {NewField("xattrlengths", []byte{9, 1, 0, 0, 2}, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got any
			var err error
			switch test.field.Kind() {
			case KindDigest:
				got, err = test.field.FileDigest()
			case KindText:
				var s []byte
				s, err = test.field.Text()
				got = string(s)
			case KindSignature:
				got, err = test.field.Signature()
			case KindUint:
				got, err = test.field.Uint()
			case KindNames:
				got, err = test.field.Names()
			case KindLengths:
				got, err = test.field.Lengths()
			}
			var fe *FieldError
			switch {
			case test.want == nil:
				if !errors.Is(err, ErrFields) || !errors.As(err, &fe) || fe.Field != test.field.ID() {
					t.Errorf("%v, %v", got, err)
				}
			case err != nil || !reflect.DeepEqual(got, test.want):
				t.Errorf("%v, %v, want %v", got, err, test.want)
			}
		})
	}
	// A field is decoded as what it is only.
	f := NewField("buf", []byte("sha256:\x00"), nil)
	decodesToNothing(t, f)
	decodesToNothing(t, NewField("x", []byte("sha256:\x00"), nil))
	decodesToNothing(t, Field{})
}

func decodesToNothing(t *testing.T, f Field) {
	t.Helper()
	_, err1 := f.FileDigest()
	_, err2 := f.Text()
	_, err3 := f.Signature()
	_, err4 := f.Uint()
	_, err5 := f.Names()
	_, err6 := f.Lengths()
	for _, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, ErrFields) {
			t.Error(err)
		}
	}
}

// A format given with ima_template_fmt= is listed under its name and has the
// same fields.
func TestTemplateFormat(t *testing.T) {
	m := newMachine(t)
	rec := m.record("n-ng|d-ngv2|iuid|n-ng", "/x\x00", "ima:sha256:\x00abc", "\x01\x00\x00\x00", "/y\x00")
	var ids []string
	for f, err := range rec.Fields() {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, f.ID())
	}
	if !slices.Equal(ids, []string{"n-ng", "d-ngv2", "iuid", "n-ng"}) || rec.Name() != "/x" {
		t.Errorf("%v %q", ids, rec.Name())
	}
	if got, _ := rec.AppendText(nil); !strings.HasSuffix(string(got), " n-ng|d-ngv2|iuid|n-ng /x ima:sha256:616263 1 /y\n") {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"", "bogus", "d-ng|", "|d-ng", "d-ng||n-ng", "d-ng|bogus", strings.Repeat("n|", 15) + "n"} {
		rec := m.record(name, "a", "b")
		n := 0
		for _, err := range rec.Fields() {
			if n++; !errors.Is(err, ErrTemplate) {
				t.Errorf("template %q: %v", name, err)
			}
		}
		if n != 1 {
			t.Errorf("template %q: %d fields", name, n)
		}
	}
	// What does not fit its template stays as it is, and goes back as it came.
	for _, data := range []string{"", "\x01", "\x04\x00\x00\x00abc", "\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xffabc"} {
		rec := Record{PCR: 10, Digest: make([]byte, 20), Template: "ima-ng", Data: []byte(data)}
		var err error
		for _, err = range rec.Fields() {
		}
		if !errors.Is(err, ErrFields) {
			t.Errorf("%q: %v", data, err)
		}
		if got := records(t, encode(t, []Record{rec}), nil); !reflect.DeepEqual(got[0], rec) {
			t.Errorf("%q came back as %+v", data, got[0])
		}
	}
}

func TestRecordErrors(t *testing.T) {
	long := strings.Repeat("x", maxTemplate+1)
	for _, name := range []string{"", long} {
		rec := Record{Template: name}
		if b, err := rec.AppendBinary([]byte("kept")); !errors.Is(err, ErrTemplate) || string(b) != "kept" {
			t.Errorf("template %q: %q, %v", name, b, err)
		}
	}
	rec := Record{Template: "ima-ng"}
	if _, err := rec.AppendDigest(nil, AlgSM3_256); !errors.Is(err, ErrAlg) || !strings.Contains(err.Error(), "sm3") {
		t.Error(err)
	}
	if _, err := rec.AppendDigest(nil, 0x1234); !errors.Is(err, ErrAlg) || !strings.Contains(err.Error(), "0x1234") {
		t.Error(err)
	}
	old := Record{Template: "ima", Data: []byte(strings.Repeat("a", 20) + "\x01\x01\x00\x00" + strings.Repeat("n", 257))}
	if _, err := old.AppendDigest(nil, AlgSHA1); !errors.Is(err, ErrFields) {
		t.Error(err)
	}
}

func TestAlgNames(t *testing.T) {
	for alg, name := range map[uint16]string{AlgSHA1: "sha1", AlgSHA256: "sha256", AlgSHA384: "sha384", AlgSHA512: "sha512", AlgSM3_256: "sm3"} {
		if AlgName(alg) != name || AlgSize(alg) == 0 {
			t.Errorf("%#x: %q, %d bytes", alg, AlgName(alg), AlgSize(alg))
		}
		if got, ok := AlgByName(name); got != alg || !ok {
			t.Errorf("%s: %#x", name, got)
		}
	}
	if _, ok := AlgByName("md5"); ok || AlgName(1) != "" || AlgSize(1) != 0 {
		t.Error("an algorithm of no bank is known")
	}
}

// The digest of what was measured, wherever a template has it.
func TestRecordFileDigest(t *testing.T) {
	m := newMachine(t)
	sum := strings.Repeat("\xab", 32)
	for template, tt := range map[string]struct {
		fields []string
		want   string
	}{
		"ima":             {[]string{sum[:20], "/f"}, strings.Repeat("ab", 20)},
		"ima-ng":          {[]string{"sha256:\x00" + sum, "/f\x00"}, "sha256:" + strings.Repeat("ab", 32)},
		"ima-sigv2":       {[]string{"verity:sha256:\x00" + sum, "/f\x00", ""}, "verity:sha256:" + strings.Repeat("ab", 32)},
		"n-ng|d-ng":       {[]string{"/f\x00", "sha512:\x00" + sum}, "sha512:" + strings.Repeat("ab", 32)},
		"d-modsig|d|n-ng": {[]string{"sha256:\x00" + sum, sum[:16], "/f\x00"}, strings.Repeat("ab", 16)},
		"d-ng|n":          {[]string{"no digest", "/f"}, ""},
		"n-ng|sig":        {[]string{"/f\x00", ""}, ""},
		"n-ng|d-ng|sig":   {[]string{"/f\x00"}, ""},
	} {
		rec := Record{PCR: DefaultPCR, Template: template}
		if template == "ima" { // has a digest of fixed size, and no length before it
			rec.Data = append([]byte(tt.fields[0]), m.record("n", tt.fields[1]).Data...)
		} else {
			rec.Data = m.record(template, tt.fields...).Data
		}
		if d, ok := rec.FileDigest(); ok != (tt.want != "") || d.String() != tt.want {
			t.Errorf("%s: %q, %v, want %q", template, d, ok, tt.want)
		}
	}
	// Every record of every captured list has one.
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		for i, rec := range records(t, b, opts) {
			if d, ok := rec.FileDigest(); !ok || len(d.Sum) == 0 {
				t.Fatalf("%s: record %d, %s: %v", c.name(), i, rec.Template, d)
			}
		}
	}
}
